"""What the tests share. Nothing here knows the simulator's code: it knows Azure's clients and the control API."""
