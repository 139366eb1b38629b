"""Which pods a run should have, and which of them should go: plans, without a manifest."""
