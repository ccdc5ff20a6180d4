//go:build linux && !version

package main

import (
	"context"
	"os"

	"k8s.io/component-base/cli"
	kubescheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// What a node needs beside the control plane.
func init() {
	programs["kubelet"] = func() { os.Exit(cli.Run(kubelet.NewKubeletCommand(context.Background()))) }
	programs["kube-scheduler"] = func() { os.Exit(cli.Run(kubescheduler.NewSchedulerCommand())) }
}
