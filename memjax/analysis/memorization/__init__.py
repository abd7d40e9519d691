"""What a K-fold study found: its numbers, verdict, figures and report."""
