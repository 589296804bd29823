"""The embedded model ``nano``: a small English BERT, pre-trained by this project.

``README.md`` beside this file says what it was trained on, how, and how good it is.
"""
