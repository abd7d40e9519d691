"""What is memorized when: curves over training, verdict, figures, report."""
