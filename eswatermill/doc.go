// Package eswatermill lets what was written for Watermill (github.com/ThreeDotsLabs/watermill) work with this toolkit: its handlers
// run on our router ([Handler], [NoPublishHandler]), its middleware goes around our handlers ([Middleware]), and its publishers and
// subscribers stand in for ours ([NewPublisher], [NewSubscriber]).
//
// A program can so move over part by part: the handlers first, while its brokers stay; or the other way round.
package eswatermill
