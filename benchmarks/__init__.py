"""What Onestory costs, measured side by side with what a user would otherwise have. `make bench` prints the table."""
