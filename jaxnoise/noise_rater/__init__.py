"""Training a rater of noise from what its weights lead to: stage 1 of NoiseRater."""
