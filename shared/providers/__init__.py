"""The gateways behind the lines: the port, what every vendor's client needs, and one folder for each vendor."""
