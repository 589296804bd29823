"""What the server of processes does once, before it forks: what each would do for itself."""

import gc

from transformers.conversion_mapping import get_checkpoint_conversion_mapping

get_checkpoint_conversion_mapping("bert")  # builds the table of all models
gc.collect()
gc.freeze()  # a fork's collections need not go over the libraries, and copy their pages
