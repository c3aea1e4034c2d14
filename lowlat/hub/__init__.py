"""Several videos on one device: `lowlat.Hub`, in `lowlat.hub.hub`, and the parts that it is made of."""
