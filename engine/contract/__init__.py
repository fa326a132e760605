"""What crosses the pipe: records, requests, events, errors, and the location and filter language.

Only msgspec and the standard library are imported here; nothing in this room does I/O or knows who answers a request."""
