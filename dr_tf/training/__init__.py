"""Training: experiments, resumable runs, cross-validation folds, hyperparameter grids."""
