"""One gateway takes another's place: what the old one hands over, and what it does until it is done."""
