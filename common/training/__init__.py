"""The loop that trains a stage, the state that methods see of it, and the parts both are made of."""
