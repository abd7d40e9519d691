"""What Memorization Rejection did: its numbers, verdict, figures, report."""
