"""The review desk: pages to label, to explore, to approve and to look back."""
