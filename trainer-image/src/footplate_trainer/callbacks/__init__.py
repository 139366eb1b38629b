"""What stages do around each step: one module for each thing, put in an order by the stage's list."""
