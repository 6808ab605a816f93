"""What we learn: labels, datasets, models, the gate and the registry."""
