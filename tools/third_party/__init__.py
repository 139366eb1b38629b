"""What others made and our images contain: packages, libraries within them, data, and the licence of each."""
