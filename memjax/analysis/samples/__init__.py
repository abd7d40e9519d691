"""What an audit of samples found: its numbers, verdict, figures and report."""
