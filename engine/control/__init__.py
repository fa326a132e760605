"""The worker manager: definitions, the dispatcher with its scheduler, pools, instances, and what operators ask about them.

Here decisions become deeds: `scheduling` decides, `store` remembers, `workers` work, and this room carries between them.
Only the dispatcher holds the scheduler; only the journal writes rows."""
