"""The client's side: connections, requests read from them, bodies, answers sent."""
