"""What kinds of task there are: head, inputs, loss, predictions and metrics of each."""
