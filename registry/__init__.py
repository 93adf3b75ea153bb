"""What exists and how it is related: checkpoints, models, claims, edges, scores. Never imports torch."""
