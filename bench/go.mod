module github.com/wxtoken/wxtoken/bench

go 1.25.0

require (
	cloud.google.com/go/auth v0.23.3
	github.com/aws/aws-sdk-go-v2 v1.47.7
	github.com/bradfitz/gomemcache v0.0.0-20260422231931-4d751bb6e37c
	github.com/faabiosr/cachego v0.15.0
	github.com/fastwego/offiaccount v1.0.1
	github.com/medivhzhan/weapp/v3 v3.6.18
	github.com/redis/go-redis/v9 v9.17.3
	github.com/silenceper/wechat/v2 v2.1.14
	github.com/stretchr/testify v1.12.1
	github.com/wxtoken/wxtoken v0.0.0
	golang.org/x/oauth2 v0.36.0
	golang.org/x/perf v0.0.0-20260709024250-82a0b07e230d
	gonum.org/v1/plot v0.17.0
)

require (
	cloud.google.com/go/compute/metadata v0.9.0 // indirect
	codeberg.org/go-fonts/liberation v0.5.0 // indirect
	codeberg.org/go-latex/latex v0.2.0 // indirect
	codeberg.org/go-pdf/fpdf v0.11.1 // indirect
	git.sr.ht/~sbinet/gg v0.7.0 // indirect
	github.com/aclements/go-moremath v0.0.0-20210112150236-f10218a38794 // indirect
	github.com/ajstarks/svgo v0.0.0-20211024235047-1546f124cd8b // indirect
	github.com/aws/smithy-go v1.28.8 // indirect
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	github.com/dgryski/go-rendezvous v0.0.0-20200823014737-9f7001d12a5f // indirect
	github.com/fatih/color v1.15.0 // indirect
	github.com/go-redis/redis/v8 v8.11.5 // indirect
	github.com/gofrs/flock v0.13.1 // indirect
	github.com/golang/freetype v0.0.0-20170609003504-e2365dfdc4a0 // indirect
	github.com/googleapis/gax-go/v2 v2.23.0 // indirect
	github.com/mattn/go-colorable v0.1.13 // indirect
	github.com/mattn/go-isatty v0.0.18 // indirect
	github.com/mitchellh/mapstructure v1.5.0 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/crypto v0.55.0 // indirect
	golang.org/x/image v0.44.0 // indirect
	golang.org/x/sys v0.47.0 // indirect
	golang.org/x/text v0.41.0 // indirect
)

replace github.com/wxtoken/wxtoken => ..
