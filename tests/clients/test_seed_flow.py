from support.cloud import *

def test_smoke(place, cloud):
    key = place.keys.create_rsa_key("k1", size=2048)
    print(key.id)
