"""`lowlat serve`: a service that labels several videos live, with a page to watch them and results over HTTP and
WebSockets."""
