"""What runs leave on disk: checkpoints of tensors, trees of settings as JSON."""
