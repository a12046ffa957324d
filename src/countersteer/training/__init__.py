"""Training: recipes, rollout storage, collectors, the learner, checkpoints, the loop."""
