"""What we know: events, identities, profiles, the catalog and the Feast feature store."""
