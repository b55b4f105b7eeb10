"""Running the edge: what an operator touches, and what several workers share."""
