"""Task templates: defaults and schema for tasks of one sort."""
