"""Several videos on one device: `lowlat.Hub` of `lowlat.hub.hub`, and the parts it is made of."""
