"""See what a DQN looks at while it trains."""
