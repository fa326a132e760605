"""Adapters as the control room needs them: who uses which, how their tasks ended, choosing and pinning versions, and comparing what a
prompt becomes under several. Which adapters there are is the book's business, in `inference`."""
