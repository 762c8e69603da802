package etcdcache_test

import (
	"fmt"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/version"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/wxtoken/wxtoken"
	"github.com/wxtoken/wxtoken/internal/servers"
	"github.com/wxtoken/wxtoken/internal/storetest"
	"github.com/wxtoken/wxtoken/stores/etcdcache"
)

func TestMain(m *testing.M) { storetest.Main(m, open) }

func open(addr string) (wxtoken.Cache, error) {
	soon := grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 5 * time.Millisecond, Multiplier: 1.6, MaxDelay: 100 * time.Millisecond}}
	client, err := clientv3.New(clientv3.Config{
		Endpoints: []string{addr}, DialTimeout: time.Minute, Logger: zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithConnectParams(soon)}, // otherwise each lost reply takes a second
	})
	if err != nil {
		return nil, err
	}
	return closableCache{etcdcache.New(client), client}, nil
}

type closableCache struct {
	*etcdcache.Cache
	client *clientv3.Client
}

func (c closableCache) Close() error { return c.client.Close() }

// A member is a single-member etcd cluster in this process.
type member struct {
	t    *testing.T
	conf *embed.Config
	etcd *embed.Etcd
}

func startMember(t *testing.T) *member {
	m := &member{t: t, conf: embed.NewConfig()}
	m.conf.Dir = t.TempDir()
	m.conf.LogLevel = "fatal"
	m.conf.ListenClientUrls, m.conf.ListenPeerUrls = []url.URL{spareURL()}, []url.URL{spareURL()}
	for m.conf.ListenPeerUrls[0] == m.conf.ListenClientUrls[0] {
		m.conf.ListenPeerUrls[0] = spareURL()
	}
	m.conf.AdvertiseClientUrls, m.conf.AdvertisePeerUrls = m.conf.ListenClientUrls, m.conf.ListenPeerUrls
	m.conf.InitialCluster = m.conf.InitialClusterFromName(m.conf.Name)
	m.start()
	t.Cleanup(m.stop)
	return m
}

func spareURL() url.URL {
	return url.URL{Scheme: "http", Host: fmt.Sprintf("127.0.0.1:%d", servers.SparePort())}
}

func (m *member) start() {
	var err error
	m.etcd, err = embed.StartEtcd(m.conf)
	require.NoError(m.t, err)
	select {
	case <-m.etcd.Server.ReadyNotify():
	case <-time.After(2 * time.Minute):
		m.t.Fatal("etcd is not ready after two minutes")
	}
}

func (m *member) stop() {
	m.etcd.Close()
	<-m.etcd.Server.StopNotify()
}

func (m *member) addr() string { return m.conf.ListenClientUrls[0].Host }

func TestEtcd(t *testing.T) {
	m := startMember(t)
	cache, err := open(m.addr())
	require.NoError(t, err)
	direct := cache.(closableCache).client
	t.Cleanup(func() { require.NoError(t, direct.Close()) })
	storetest.Run(t, storetest.Store{
		Name: "etcd, etcdcache", Version: version.Version, Open: open, Config: m.addr(),
		Evict: func(key string) {
			_, err := direct.Delete(t.Context(), key)
			assert.NoError(t, err)
		},
		Proxied: func(addr string) string { return addr }, Addr: m.addr(),
		Outage: func(string) { m.stop(); m.start() }, Outages: "restart",
	})
}

func TestNewPanicsOnNil(t *testing.T) {
	assert.PanicsWithValue(t, "wxtoken: etcdcache.New: the client is nil", func() { etcdcache.New(nil) })
}
