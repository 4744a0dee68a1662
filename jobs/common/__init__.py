"""What every kind of job shares: settings, files, locks, seeds, and how a command ends."""
