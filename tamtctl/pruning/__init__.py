"""How a mask is found.

The weights W of a pre-trained model are never changed. A search looks for a mask m of zeros and
ones with which the model works best at a given sparsity when it computes with W ⊙ m.

1.  A criterion (`tamtctl.pruning.criteria`) gives every weight an importance. Most criteria look at
    what a text does to the weights (`tamtctl.pruning.statistics`).
2.  An allocation (`tamtctl.pruning.allocations`) says how many weights each matrix keeps, and a
    pattern (`tamtctl.pruning.patterns`) which of them are kept together. The most important ones
    make the initial mask. A one-shot method ends here.
3.  Mask training (`tamtctl.pruning.trained.folded_weights`) gives every weight a score, which
    starts from its importance (`tamtctl.pruning.trained.initial_scores`). In each step the scores
    follow the gradient of an objective (`tamtctl.pruning.objectives`), and the largest ones are
    kept, exactly as many as before. The baseline, iterative magnitude pruning, trains the weights
    instead, cuts the smallest and rewinds (`tamtctl.pruning.trained.iterative_pruning`).
4.  The mask is measured on held-out text beside its baselines
    (`tamtctl.pruning.searching.measured_masks`), and saved as a ticket.

`tamtctl.pruning.searching.run` puts these steps together. Beside it are
`tamtctl.pruning.recipes`, which give a search its usual settings, `tamtctl.pruning.latency`, which
finds a sparsity by the time a model takes, `tamtctl.pruning.combining`, which makes one ticket of
several, and `tamtctl.pruning.recovery`, which trains the weights that a ticket keeps.
"""
