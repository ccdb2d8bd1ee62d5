"""Ready-made tasks, each named by `_target_` in a configuration.

They are ordinary `TrainTask`s: whatever they can do, a user's own task can do too.
"""
