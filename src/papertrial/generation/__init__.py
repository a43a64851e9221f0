"""Making images and video: diffusion, editing, world models."""
