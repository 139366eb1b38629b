"""Database: connections, locks, bulk writes and the schema's revisions."""
