"""Floor 4. The control plane: the fleet's door, the operators' door, the store, the dispatcher, the janitor."""
