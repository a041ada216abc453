"""Model routes: who answers them, how often they may be asked, and what they cost."""
