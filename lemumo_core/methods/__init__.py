"""Methods of self-supervised pretraining, one folder or module each."""
