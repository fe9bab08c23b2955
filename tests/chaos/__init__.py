"""Real processes, killed at random moments: whatever dies, every slot has one fate and no run happens twice."""
