"""What the rest stands on: settings, Redis, the broker, and the stores that live in them."""
