"""Self-supervised pretraining with probes."""
