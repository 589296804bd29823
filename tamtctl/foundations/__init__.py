"""What everything stands on: errors, files, locks, devices, processes, progress."""
