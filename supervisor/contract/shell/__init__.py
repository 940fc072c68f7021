"""What both programs do with their own streams in one way: all that the contract ever asks of the system."""
