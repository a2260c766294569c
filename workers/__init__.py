"""flood's delivery agent."""
