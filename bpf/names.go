package bpf

// Names of the maps. They are pinned under these names.
const (
	MapPods       = heddleMapHdPods
	MapServices   = heddleMapHdServices
	MapSplits     = heddleMapHdSplits
	MapClusters   = heddleMapHdClusters
	MapEndpoints  = heddleMapHdEndpoints
	MapMembers    = heddleMapHdMembers
	MapLoads      = heddleMapHdLoads
	MapOutliers   = heddleMapHdOutliers
	MapOwn        = heddleMapHdOwn
	MapIfaces     = heddleMapHdIfaces
	MapAffinity   = heddleMapHdAffinity
	MapFlows      = heddleMapHdFlows
	MapConns      = heddleMapHdConns
	MapPeers      = heddleMapHdPeers
	MapStats      = heddleMapHdStats
	MapRefusals   = heddleMapHdRefusals
	MapReasons    = heddleMapHdReasons
	MapIfStats    = heddleMapHdIfStats
	MapFast       = heddleMapHdFast
	MapFastUse    = heddleMapHdFastUse
	MapFastEnded  = heddleMapHdFastEnded
	MapHandshakes = heddleMapHdHandshakes
	MapBypass     = heddleMapHdBypass
	MapSocks      = heddleMapHdSocks
	MapBypassed   = heddleMapHdBypassed
	MapCredit     = heddleMapHdCredit
	MapShares     = heddleMapHdShares
)

// Names of the programs.
const (
	ProgConnect4   = heddleProgHdConnect4
	ProgConnect6   = heddleProgHdConnect6
	ProgSendmsg4   = heddleProgHdSendmsg4
	ProgSendmsg6   = heddleProgHdSendmsg6
	ProgRecvmsg4   = heddleProgHdRecvmsg4
	ProgRecvmsg6   = heddleProgHdRecvmsg6
	ProgGetpeer4   = heddleProgHdGetpeer4
	ProgGetpeer6   = heddleProgHdGetpeer6
	ProgGetsockopt = heddleProgHdGetsockopt
	ProgSockops    = heddleProgHdSockops
	ProgRelease    = heddleProgHdRelease
	ProgTCIn       = heddleProgHdTcIn
	ProgTCOut      = heddleProgHdTcOut
	ProgFastEnd    = heddleProgHdFastEnd
	ProgWhy        = heddleProgHdWhy
	ProgMsg        = heddleProgHdMsg
	ProgRecv       = heddleProgHdRecv
	ProgSetsockopt = heddleProgHdSetsockopt
)
