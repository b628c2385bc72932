"""What like plans and like queries spare a search: thinning, pruning with reasons, histories."""
