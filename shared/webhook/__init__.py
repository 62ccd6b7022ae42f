"""Keep every event and give it its effect before it is answered."""
