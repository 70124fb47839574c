"""From the keys of a config to plain objects: every key is checked, and none goes unread."""
