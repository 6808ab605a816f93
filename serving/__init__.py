"""What we answer: the decision, its rules, its log and its HTTP face."""
